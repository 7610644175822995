// Package bench measures a vmcastfs binary through real mounts. `bash .ci/bench`
// builds both and runs it; flags are passed on. What is measured, what came out and
// what was tried is in ../vmcastfs/docs/benchmarks.md.
package bench
