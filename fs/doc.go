// Package fs shows a tree of releases as a read-only FUSE filesystem.
package fs
