// Package seekable gives random access to the plain content of gzip, xz, zstd and bzip2 files.
package seekable
