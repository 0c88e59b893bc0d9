// Package cluster runs a real Whispering Woods cluster for tests and for the demonstration: the built ww program,
// one process per log server, namenode and datanode, on loopback ports, with all state below one directory.
//
// A Cluster owns its processes. Each can be started, ended with SIGTERM, killed with SIGKILL and started again on
// the same port and the same state; all are signalled by their own pid. A process dies with its parent, also when
// the parent is killed. Everything that a process prints goes to <name>.log.
//
// Goroutines: one waits for each running process; one launcher thread starts them all, because Linux ties the death
// signal of a child to the thread that made it.
//
// The package knows nothing of testing, so that a program can use it too.
package cluster
