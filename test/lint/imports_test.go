package lint

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// layer says what one package, or one subtree of packages, may import of this
// module. Test files may import more: see importArrows.
type layer struct {
	prefix string   // directory from the root; the longest match wins
	may    []string // directories, each with what lies below it
	reason string   // why no more
}

// leaves know nothing of the system: one noun each.
func leaves() []string {
	return []string{
		"internal/backoff",
		"internal/bufpool",
		"internal/chunk",
		"internal/clock",
		"internal/datanode",
		"internal/fault",
		"internal/idle",
		"internal/invariants",
		"internal/lateness",
		"internal/limits",
		"internal/msgpack",
		"internal/queue",
		"internal/record",
		"internal/trash",
		"internal/vfs",
	}
}

func layers() []layer {
	leaf := "a leaf is one noun that every layer shares: it knows no layer"
	return []layer{
		{"internal/invariants", nil, leaf},
		{"internal/chunk", nil, leaf},
		{"internal/datanode", []string{"internal/chunk", "internal/lateness"}, leaf},
		{"internal/fault", nil, leaf},
		{"internal/clock", nil, leaf},
		{"internal/lateness", nil, leaf},
		{"internal/limits", []string{"internal/chunk", "internal/fault"}, leaf},
		{"internal/trash", nil, leaf},
		{"internal/backoff", nil, leaf},
		{"internal/idle", nil, leaf},
		{"internal/queue", nil, leaf},
		{"internal/msgpack", nil, leaf},
		{"internal/record", []string{"internal/fault"}, leaf},
		{"internal/bufpool", []string{"internal/invariants"}, leaf},
		{"internal/vfs", []string{"internal/invariants", "internal/fault"}, leaf},

		{"actor/codec", []string{"internal/chunk", "internal/datanode", "internal/fault", "internal/msgpack"},
			"what is durable knows its form, and not the state that it makes"},
		{"actor/namespace", []string{"internal/chunk", "internal/datanode", "internal/fault", "internal/limits"},
			"files and directories know neither leases nor datanodes"},
		{"actor/leases", []string{"actor/namespace", "internal/chunk", "internal/datanode"},
			"who writes what is known by ids and slots: a lease knows neither files nor datanodes"},
		{"actor/step", []string{"internal/chunk"}, "what all rooms of the state machine share while a command runs"},
		{"actor/replicas", []string{"actor/codec", "actor/leases", "actor/namespace", "actor/replicas", "actor/step",
			"internal/chunk", "internal/datanode", "internal/fault", "internal/lateness", "internal/limits",
			"internal/queue"},
			"replicas follow the chunks of the namespace; what is durable is not decided here"},
		{"actor/replicas/placement", []string{"actor/step", "internal/datanode"},
			"a policy sees candidates, and nothing else of the cluster"},
		{"actor", []string{"actor", "internal/chunk", "internal/datanode", "internal/fault", "internal/limits",
			"internal/invariants", "internal/queue", "internal/trash"},
			"the state machine is pure: what it cannot import it cannot depend on when the log is replayed"},
		{"disk", append(leaves(), "disk"), "the chunk store knows neither network nor namenode"},
		{"disk/chunkfile", []string{"internal/chunk", "internal/fault", "internal/limits", "internal/vfs"},
			"the file of one chunk: whoever opens, renames and locks it is above"},
		{"disk/pack", []string{"internal/chunk", "internal/clock", "internal/fault", "internal/limits", "internal/vfs",
			"disk/chunkfile", "disk/filecache"},
			"segments of records: which of them are replicas its owner knows"},
		{"disk/scrub", []string{"internal/chunk", "internal/clock", "internal/datanode", "internal/fault",
			"internal/vfs"},
			"when to verify what, and how far that is: how, and what becomes of a bad replica, is above"},
		{"disk/filecache", []string{"internal/vfs"},
			"it counts the users of open files and does not know what they hold"},
		{"dataplane/wire", leaves(), "the packet codec is shared by clients and datanodes"},
		{"dataplane/machine", []string{"dataplane/wire", "internal/bufpool", "internal/chunk", "internal/datanode",
			"internal/fault", "internal/invariants", "internal/lateness", "internal/queue", "internal/record"},
			"the protocol of a connection is pure: sockets, disks and clocks are around it"},
		{"dataplane/peers", append(leaves(), "dataplane/wire"), "it keeps connections, whatever is said on them"},
		{"dataplane/copier", append(leaves(), "dataplane/wire", "dataplane/peers", "disk"),
			"a copy is made without sessions and event loops"},
		{"dataplane", append(leaves(), "dataplane", "disk"),
			"the data plane moves bytes between sockets and the chunk store; the control plane is told by others"},
		{"control/controlpb", nil, "generated from the .proto files"},
		{"control/rpc", append(leaves(), "control/controlpb"), "how every gRPC peer maps errors and dials"},
		{"control/editlog", append(leaves(), "control/controlpb", "control/rpc"),
			"the log's client moves framed records and does not look inside"},
		{"control/logserver", append(leaves(), "control/controlpb", "control/rpc", "control/logserver"),
			"the log stores framed records and does not look inside"},
		{"control/logserver/entry", leaves(),
			"what an entry holds, and whether it counts, depends on the entries before it alone"},
		{"control/logserver/checkpoint", append(leaves(), "control/controlpb", "control/logserver/entry"),
			"a checkpoint is kept beside the log and knows nothing of raft-wal"},
		{"control/logserver/walcheck", append(leaves(), "control/logserver/entry", "control/logserver/checkpoint"),
			"the log is checked before any server runs on it"},
		{"control/namenode", append(leaves(), "actor", "control/controlpb", "control/editlog", "control/rpc"),
			"the shell around the actor"},
		{"control/agent", append(leaves(), "control/controlpb", "control/rpc"),
			"the agent reaches disk and data plane through interfaces that it defines"},
		{"client", append(leaves(), "client/internal", "dataplane/wire", "control/controlpb", "control/rpc"),
			"the public API speaks to the cluster over its protocols only"},
		{"client/internal/lifetime", []string{"internal/fault"}, "it bounds what runs and does not know what that is"},
		{"client/internal/health", append(leaves(), "dataplane/wire"), "it remembers what others saw of the datanodes"},
		{"client/internal/namenode", append(leaves(), "client/internal/lifetime", "dataplane/wire", "control/controlpb",
			"control/rpc"),
			"calls to the namenode know no datanode"},
		{"client/internal/datanode", append(leaves(), "client/internal/lifetime", "client/internal/health",
			"dataplane/wire"),
			"one request to one datanode: which one to ask, and what to tell the namenode, is decided above"},
		{"client/internal/pipeline", append(leaves(), "client/internal/lifetime", "client/internal/health",
			"client/internal/namenode",
			"client/internal/datanode", "dataplane/wire", "control/controlpb"),
			"it writes a chunk and knows neither files nor readers"},
		{"client/internal/view", append(leaves(), "client/internal/lifetime", "client/internal/health",
			"client/internal/namenode",
			"client/internal/datanode", "dataplane/wire", "control/controlpb"), "it reads a file and knows no writers"},
		{"daemon/config", leaves(), "settings are plain data"},
		{"daemon/admin", []string{"internal/fault"},
			"the admin address of a process knows nothing of what the process does"},
		{"daemon/machine", []string{"internal/clock", "internal/datanode"},
			"what the kernel tells of a machine has nothing to do with what runs on it"},
		{"daemon/profiling", []string{"internal/fault"},
			"a profile of a process knows nothing of what the process does"},
		{"daemon/appender", append(leaves(), "client", "dataplane"),
			"it appends as a client for the clients of a data server"},
		{"daemon", []string{"internal", "actor", "disk", "dataplane", "control", "client", "daemon"},
			"it assembles processes; programs and load generators use it"},

		{"bench", append(leaves(), "client"), "the load generator sees what a user sees"},
		{"bench/cluster", append(leaves(), "client", "daemon/config"),
			"it starts real processes and sees them from outside"},
		{"bench/statemachine", append(leaves(), "actor", "bench/load"),
			"it loads the state machine alone: no network, no log"},
		{"bench/table", append(leaves(), "bench", "client", "control/editlog", "daemon/config"),
			"it measures real processes from outside, and fills a log for them to replay"},
		{"bench/knob", append(leaves(), "bench/report", "bench/cluster"),
			"it starts real clusters that differ in one setting, and loads them with wwbench itself"},

		{"test/fakeclock", []string{"internal/clock"}, "a clock for tests stands in for clock, and nothing above it"},
		{"test/built", nil, "it only builds ww"},
		{"test/simdisk", []string{"internal/vfs"}, "a disk for tests stands in for vfs, and nothing above it"},
		{"test/loopdisk", nil, "it makes file systems that fail, for whoever"},
		{"test/lint", nil, "rules look at the tree from outside"},
		{"test/faults", []string{"internal", "actor", "disk", "dataplane", "control", "client", "daemon"},
			"fault tests break every part from within one process"},
		{"test/e2e", append(leaves(), "test/e2e", "test/built", "test/loopdisk", "bench/cluster", "client",
			"dataplane/wire", "control/controlpb", "control/rpc"), "end-to-end tests see the processes from outside"},
		{"test/copies", append(leaves(), "test/built", "test/loopdisk", "bench/cluster", "client", "disk/chunkfile"),
			"the processes are seen from outside, and their disks are read without the code that wrote them"},
		{"cmd", append(leaves(), "cmd", "bench", "client", "control", "daemon"),
			"a program is flags, wiring and signals: the parts are assembled in daemon"},
	}
}

// order lists the storeys of the house from the top: an arrow leads to a lower
// one, or stays within one folder. Tests of the whole system stand on the roof.
func order() [][]string {
	return [][]string{
		{"cmd", "test"}, {"bench"}, {"daemon"}, {"client"}, {"control", "dataplane"}, {"actor", "disk"}, {"internal"},
	}
}

// storey is the place of a folder in order, counted from the top; -1 if it has none.
func storey(directory string) int {
	top, _, _ := strings.Cut(directory, "/")
	return slices.IndexFunc(order(), func(folders []string) bool { return slices.Contains(folders, top) })
}

// layerOrder holds the layers to the order of the storeys: no entry of layers
// permits an arrow upward, nor a leaf anything but leaves.
func layerOrder(tree *tree, found *findings) {
	tree.handWritten(func(p *goPackage, f *goFile) {
		for _, spec := range f.syntax.Imports {
			target, own := ownImport(spec)
			from, _, _ := strings.Cut(p.path, "/")
			switch {
			case !own || f.test || within(target, from):
			case storey(p.path) < 0:
				found.add("%s: %s stands on no storey: give it one in order", tree.at(spec.Pos()), p.path)
			case storey(target) <= storey(p.path):
				found.add("%s: %s → %s does not lead down", tree.at(spec.Pos()), p.path, target)
			}
		}
	})
	for _, l := range layers() {
		for _, target := range l.may {
			from, _, _ := strings.Cut(l.prefix, "/")
			if storey(target) <= storey(l.prefix) && !within(target, from) {
				found.add("layers: %s may import %s, which does not lead down", l.prefix, target)
			}
		}
	}
	for _, p := range tree.packages {
		if within(p.path, "internal") && !slices.Contains(leaves(), p.path) {
			found.add("%s is no leaf that leaves() lists: internal holds leaves, nothing else", p.path)
		}
	}
}

// layerOf finds the rule of a package.
func layerOf(directory string) (layer, bool) {
	var best layer
	found := false
	for _, l := range layers() {
		if within(directory, l.prefix) && (!found || len(l.prefix) > len(best.prefix)) {
			best, found = l, true
		}
	}
	return best, found
}

// within reports whether directory is prefix or lies below it.
func within(directory, prefix string) bool {
	return directory == prefix || strings.HasPrefix(directory, prefix+"/")
}

// importArrows holds the direction of imports. Tests may reach across the
// layers (to check one against another), but nobody imports a program, and only
// programs import bench.
func importArrows(tree *tree, found *findings) {
	tree.handWritten(func(pkg *goPackage, file *goFile) {
		rule, ok := layerOf(pkg.path)
		if !ok {
			found.add("%s: package %s has no place among the layers: give it one in test/lint, with a reason",
				file.path, pkg.path)
			return
		}
		for _, spec := range file.syntax.Imports {
			target, own := ownImport(spec)
			switch {
			case !own || target == pkg.path:
			case within(target, "cmd") && !within(pkg.path, "cmd"):
				found.add("%s: imports %s: a program is nobody's library", tree.at(spec.Pos()), target)
			case file.test:
			case !allowed(rule, pkg.path, target):
				found.add("%s: new arrow %s → %s. %s may import %s: %s", tree.at(spec.Pos()), pkg.path, target,
					rule.prefix, list(rule.may), rule.reason)
			}
		}
	})
}

func allowed(rule layer, from, target string) bool {
	for _, prefix := range rule.may {
		if within(target, prefix) {
			return true
		}
	}
	// Packages below one layer (its internals) may use each other, unless a
	// closer rule says otherwise.
	other, ok := layerOf(target)
	return ok && other.prefix == rule.prefix && within(from, rule.prefix)
}

func ownImport(spec *ast.ImportSpec) (string, bool) {
	name, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(name, module+"/")
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing of this module"
	}
	return strings.Join(names, ", ")
}

// pureCode: the same log gives the same state on every node only if time, chance
// and the outside world enter the actor through its commands. And a test plays any
// order of events to the protocol of the data plane only if they enter by calls.
func pureCode(tree *tree, found *findings) {
	foreign := []string{
		"net", "os", "syscall", "math/rand", "crypto/rand", "log", "runtime", "context", "io/fs",
		"google.golang.org/grpc", "golang.org/x/sys", "golang.org/x/sync", "github.com/panjf2000/gnet",
	}
	clockCalls := map[string]bool{
		"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "Sleep": true,
		"NewTimer": true, "NewTicker": true, "Tick": true,
	}
	tree.handWritten(func(p *goPackage, file *goFile) {
		actor := within(p.path, "actor")
		if file.test || !actor && p.path != "dataplane/machine" {
			return
		}
		for _, spec := range file.syntax.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			for _, bad := range foreign {
				if within(name, bad) {
					found.add("%s: %s imports %s: what it needs from outside comes in by calls", tree.at(spec.Pos()),
						p.path, name)
				}
			}
			if actor && within(name, "sync") { // machines share a budget and counters
				found.add("%s: actor imports %s: one goroutine owns all its state", tree.at(spec.Pos()), name)
			}
		}
		ast.Inspect(file.syntax, func(n ast.Node) bool {
			if pkg, name, ok := selector(n); ok && pkg == "time" && clockCalls[name] {
				found.add("%s: %s calls time.%s: time comes in by calls", tree.at(n.Pos()), p.path, name)
			}
			if g, ok := n.(*ast.GoStmt); ok {
				found.add("%s: %s starts a goroutine: one goroutine owns all its state", tree.at(g.Pos()), p.path)
			}
			return true
		})
	})
}

// selector takes a package-qualified name apart.
func selector(n ast.Node) (pkg, name string, ok bool) {
	s, isSelector := n.(*ast.SelectorExpr)
	if !isSelector {
		return "", "", false
	}
	x, isIdent := s.X.(*ast.Ident)
	if !isIdent {
		return "", "", false
	}
	return x.Name, s.Sel.Name, true
}
