// Package apk knows the package format of apk-tools, version 2: how versions
// are ordered, what a dependency says, how a package is laid out in sections,
// how it is signed and verified, what an index and the database of installed
// packages look like.
//
// It follows apk-tools 3 to the letter, including where the letter is odd,
// because a package is right when apk installs it, not when this package can
// read it back.
//
// It does not know where packages come from, which of them to choose, or what
// a recipe is. It touches no disk except to load keys.
//
// A package file is three gzip members behind one another. Each holds a piece
// of one tar archive:
//
//	signature   .SIGN.RSA256.<key>          over the compressed control section
//	control     .PKGINFO, scripts           holds the SHA-256 of the compressed data section
//	data        the files                   each with the SHA-1 of its content
//
// So trust runs from the key to the control section to the data section, and
// a reader that follows it never needs to look at a byte it cannot vouch for.
// An index is the same with its text in the place of the control section; it
// names a package by the SHA-1 of its compressed control section.
package apk
