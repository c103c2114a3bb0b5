package apk

// Verify says what makes a package or an index trustworthy. The zero value
// trusts nothing: one of Keyring, Checksum and Insecure is needed.
type Verify struct {
	Keyring   Keyring   // a signature by one of these keys
	Checksum  *Checksum // or this very control section, as a verified index names it
	AllowSHA1 bool      // also accept signatures over SHA-1
	Insecure  bool      // accept without either; hashes inside are still checked
	Limits    Limits
}

// Limits bound what a hostile file may make its reader spend. A zero field
// stands for the default.
type Limits struct {
	Control int64 // uncompressed bytes of the signature and control sections; 64 MiB
	Data    int64 // uncompressed bytes of the data section or of an index; 64 GiB
	Entries int   // files in a package; 4 Mi
}
