// Package simdisk is a disk that tests command: two file systems for the seam
// that package vfs is.
//
// Mem keeps files in memory, with a model of what a power failure leaves behind
// (CrashClone). Faulty wraps another file system and fails by rule. Mem passes the
// same conformance suite as vfs.OS. A new fault is a Rule of Faulty or a CrashMode;
// a new call of the seam needs an Op (faulty.go) too. The package starts no
// goroutine; no program links it.
package simdisk
