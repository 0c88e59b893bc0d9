// Package faults tests the write path under faults. It holds tests and their
// harness only; nothing imports it.
//
// The harness is a whole cluster in one process: a log server, a namenode and
// four datanodes on loopback, assembled as daemon does it, with three
// seams. Below each chunk store lies a simdisk.Faulty on a memory disk. Before each
// datanode's data port stands a proxy, whose address the datanode advertises:
// it reads the packets that pass, tells the test about each before it forwards
// it, and can refuse, hang, be slow, or break off in the middle of a packet. A
// second proxy of each datanode lies on its way to the namenode, so that a
// killed or paused node falls silent there as well.
//
// TestMatrix runs one writer per combination of
//
//	fault × position of the node in the pipeline × step of the protocol
//
// and then checks (see checker_test.go) that the writer finished, that every
// acknowledged byte is read back equal and in order while the fault lasts, that
// after the node came back all replicas that the namenode counts are whole and
// equal, that a stale replica is refused, and that whatever disappeared from a
// disk did so by an order of the namenode. No goroutine and no pooled buffer may
// be left. The checker itself is tested: TestCheckerFindsLostWrites runs it on a
// disk that says that it wrote and does not.
//
// A run of one combination:
//
//	go test ./test/faults -run 'TestMatrix/kill/middle/first-packet'
//
// `make faults` runs everything FAULTS_COUNT times (20 by default); with -short
// the matrix keeps a sixth of its combinations, which is what `make race` runs.
package faults
