// Package xvm reads and writes virtual machine packages: the tar archive, its
// manifest, signatures, block list and description.
package xvm
