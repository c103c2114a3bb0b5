package apk

// An Index lists the packages of one repository for one architecture.
type Index struct {
	Description string
	Packages    []*Package
}
