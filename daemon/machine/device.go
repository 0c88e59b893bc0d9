package machine

import "golang.org/x/sys/unix"

func deviceOf(number uint64) device { return device{unix.Major(number), unix.Minor(number)} }
