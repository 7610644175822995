// Package machines makes, resets and removes the directories of machines, whose
// records package bases keeps. The disks are made by programs and system calls that
// exist: qemu-img, FICLONE and device-mapper.
//
// A directory holds machine.json, a file for the hypervisor, and disks/.
//
// # What a crash leaves
//
// A new machine is made under a temporary name, written to the disk and renamed. A
// reset makes all new disks in a temporary directory, writes them to the disk, and
// exchanges the two directories at once. A machine is removed by a rename first. So
// there is the old state or the new one, for all its disks together. What is left
// under a temporary name is removed by the next command ([Work.Sweep]), unless the
// process that made it still holds its lock.
//
// # Locks
//
// The lock of the machines' directory is held while a temporary name is taken or
// swept. The lock of a machine, on its directory, is held by whatever changes or
// starts it. It comes first. A hypervisor's locks on a disk, as QEMU sets them, are
// respected ([Quiet]).
package machines
