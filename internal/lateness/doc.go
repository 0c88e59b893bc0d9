// Package lateness tells which of some things that do the same work (the disks of a datanode, the datanodes of a
// cluster) do it far later than their peers, and keep doing so.
//
// How late an operation is, is the time that it took beyond what BytesPerSecond allow for the bytes that it had to
// move: so a disk with large chunks is not taken for a slower one than its sibling with small ones. Whoever does the
// work has a Meter, whose Samples grow; whoever compares takes the differences, round by round, and lets a Judge
// decide. It owns no state but what is in those, runs no goroutine, and knows no clock.
package lateness
