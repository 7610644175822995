// Package bases keeps the records of machines that lie on releases. `vmcastfs vm`
// writes them, and a mount reads them: a release that a machine lies on keeps its
// path.
//
//   - machines' directory: vms=DIR, with a directory for each machine.
//   - record: machine.json in it, which says what the machine was made of.
//   - base: an image of a release, below a disk of a machine.
//   - digest: what tells the content of a base from any other.
//
// A machine comes and goes by the rename of its directory, and a record is replaced
// whole. So a record that is there is complete. What it says is checked all the
// same ([Parse]): a record with a fault is told, and nothing of it is used.
//
// The directories are the user's own, and others may only pass through them: the
// hypervisor that opens a disk may run as another user.
//
// Everything exported may be called by any number of goroutines and processes.
// Those that change machines hold [Dir.Lock].
package bases
