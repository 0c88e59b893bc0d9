// Command ww is Whispering Woods' only program: its daemons (logserver, namenode, datanode, mini), its file verbs
// (put, get, ls …), a prompt over the same verbs (shell) and the operator's verbs (admin).
//
// The package holds flags, wiring and printing. Each run owns one client, made when the first verb needs it. It
// runs no goroutine of its own but the signal handler; what transfers trees is in cmd/ww/internal/transfer, what
// assembles daemons in daemon. A new verb is a function in a file of its own and an entry in newRoot.
package main

import (
	"os"
)

func main() {
	os.Exit(mainExit())
}

func mainExit() int {
	program := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		environ: os.Environ(), interrupt: notifySignals,
	}
	defer program.close()
	return program.run(os.Args[1:])
}
