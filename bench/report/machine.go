package report

import (
	"cmp"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where a document comes from. Numbers of different machines do not compare; ratios sometimes do.
type Machine struct {
	CPUs        int    `json:"cpus"`
	CPUModel    string `json:"cpu_model"`
	MemoryBytes uint64 `json:"memory_bytes"`
	Kernel      string `json:"kernel"`
	FileSystem  string `json:"file_system"` // of the measured directory
	Go          string `json:"go"`
}

// ThisMachine describes the machine and the file system of a directory. What cannot be found out stays empty.
func ThisMachine(directory string) Machine {
	machine := Machine{CPUs: runtime.NumCPU(), CPUModel: field("/proc/cpuinfo", "model name"), Go: runtime.Version()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		machine.MemoryBytes = info.Totalram * uint64(info.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		machine.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	var fs unix.Statfs_t
	if unix.Statfs(directory, &fs) == nil {
		machine.FileSystem = fileSystem(fs.Type)
	}
	return machine
}

func fileSystem(magic int64) string {
	return cmp.Or(map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	}[magic], "other")
}

// field is the value of the first line "name : value" of a file.
func field(path, name string) string {
	text, _ := os.ReadFile(path) // what cannot be found out stays empty
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
