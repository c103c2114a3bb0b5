package apk

import "errors"

// What can be wrong with a package or an index. The error returned says what
// was being read and wraps one of these.
var (
	ErrFormat    = errors.New("not what apk writes")
	ErrUntrusted = errors.New("not signed by a trusted key")
	ErrSignature = errors.New("the signature does not fit")
	ErrChecksum  = errors.New("the control section is not the one named by its checksum")
	ErrDataHash  = errors.New("the data section is not the one named by its control section")
	ErrFileSum   = errors.New("the content of a file does not have the SHA-1 recorded for it")
	ErrLimit     = errors.New("larger than the limit")
)
