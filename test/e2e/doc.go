// Package e2e tests Whispering Woods from outside: it builds ww once, runs a log
// server, a namenode and datanodes as separate processes, and drives them with
// the command line and the Go client.
//
// Environment: E2E_ROUNDS sets the rounds of the crash suite, E2E_SEED repeats
// one (each failure prints its seed), E2E_FLIPS is how many bits the test of
// rotting replicas flips, E2E_RACE=1 builds ww with the race detector,
// E2E_PROGRAM uses a ww that is built already, E2E_KEEP=1 keeps the clusters'
// directories.
//
// Each test that needs a cluster has its own and ends it. The package has no
// code besides its tests; the processes are run by bench/cluster.
package e2e
