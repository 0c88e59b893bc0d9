package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/admin"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// profileSpan is how long a profile covers when nothing is said.
	profileSpan = 10 * time.Second
	// addressTimeout bounds the question whether an address is that of a datanode or of an admin port.
	addressTimeout = 2 * time.Second
)

func newProfile(program *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "profile [flags] NODE [" + strings.Join(admin.Kinds(), "|") + "] [DURATION]",
		Short: "fetch a profile of a running daemon",
		Long: `Fetch a profile from a daemon's admin address and write it to a file.

NODE is "namenode", "logserver" (the one that leads), a log server's id, a datanode's
name, address, id or the beginning of that (see ww admin node list), or the host:port
of an admin address. The kind is cpu unless another is named; DURATION (10s) is how
long cpu, allocs, mutex, block and trace are measured, at most 2m.

Daemons listen for this on the loopback interface of their host by default; set
admin_listen to reach them from elsewhere: there is no password.`,
		Example: "  ww admin profile namenode\n  ww admin profile dn1 mutex 30s -o dn1.pprof\n" +
			"  ww admin profile 127.0.0.1:7790 trace 2s",
		Args: arguments(1, 3),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return admin.Kinds(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind, span := "cpu", profileSpan
		if len(args) > 1 {
			kind = args[1]
		}
		if len(args) > 2 {
			d, err := config.ParseDuration(args[2])
			if err != nil {
				return usageOf(cmd, "%v", err)
			}
			span = time.Duration(d)
		}
		address, err := program.adminAddress(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		file = cmp.Or(file, profileFile(args[0], kind))
		size, err := fetchProfile(cmd.Context(), address, kind, span, file)
		if err != nil {
			return err
		}
		out := program.printer()
		read := "go tool pprof -http=: " + quoteForShell(file)
		if kind == "trace" {
			read = "go tool trace " + quoteForShell(file)
		}
		out.object("profile", record{"node": args[0], "address": address, "kind": kind, "file": file,
			"bytes": size, "read_with": read})
		out.text("%s profile of %s, %d bytes, in %s", kind, args[0], size, file)
		out.text("read it with: %s", read)
		return out.flush()
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to this file (default NODE-KIND.pprof, or .trace)")
	return cmd
}

// profileFile is the file that a profile goes to when none is named.
func profileFile(node, kind string) string {
	extension := "pprof"
	if kind == "trace" {
		extension = "trace"
	}
	return fmt.Sprintf("%s-%s.%s", strings.NewReplacer("/", "_", ":", "_").Replace(node), kind, extension)
}

// fetchProfile writes a profile to a file that appears when it is whole.
func fetchProfile(ctx context.Context, address, kind string, span time.Duration, file string) (int64, error) {
	const op = "write profile"
	temporary := file + ".new"
	f, err := os.Create(temporary)
	if err != nil {
		return 0, &fault.Error{Kind: fault.Disk, Op: op, Path: file, Err: err}
	}
	size, err := admin.Fetch(ctx, address, kind, span, f)
	if closed := f.Close(); err == nil && closed != nil {
		err = &fault.Error{Kind: fault.Disk, Op: op, Path: file, Err: closed}
	}
	if err == nil {
		if err = os.Rename(temporary, file); err == nil {
			return size, nil
		}
		err = &fault.Error{Kind: fault.Disk, Op: op, Path: file, Err: err}
	}
	_ = os.Remove(temporary) // err says why it is useless
	return 0, err
}

// adminAddress finds the admin address of a daemon by its name.
func (a *app) adminAddress(ctx context.Context, node string) (string, error) {
	_, _, notAddress := net.SplitHostPort(node)
	asked := ctx
	if notAddress == nil { // also of a daemon whose cluster does not answer
		var cancel context.CancelFunc
		asked, cancel = context.WithTimeout(ctx, addressTimeout)
		defer cancel()
	}
	status, err := a.clusterStatus(asked)
	if err != nil && notAddress != nil {
		return "", err
	}
	address, beside, known := adminOf(status, node)
	switch {
	case !known && notAddress == nil:
		return node, nil
	case !known:
		return "", &fault.Error{Kind: fault.NotFound, Op: "find daemon", Node: node,
			Reason: "the cluster has no daemon of this name",
			Hint: "there are namenode, logserver and the nodes of `ww admin node list`; " +
				"or name the host:port of an admin address"}
	case address == "":
		return "", &fault.Error{Kind: fault.Unavailable, Op: "find daemon", Node: node,
			Reason: "it has no admin address, or has not reported it yet",
			Hint:   "set admin_listen in its section and start it again"}
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", &fault.Error{Kind: fault.Protocol, Op: "find daemon", Node: node, Address: address, Err: err}
	}
	if host, _, err := net.SplitHostPort(beside); err == nil && config.AllInterfaces(address) {
		return net.JoinHostPort(host, port), nil
	}
	return address, nil
}

// adminOf looks a daemon up; beside is an address of its host.
func adminOf(status client.ClusterStatus, node string) (address, beside string, known bool) {
	if node == "namenode" {
		return status.AdminAddress, status.Namenode, true
	}
	for _, l := range status.LogServers {
		if node == "logserver" && l.Leader || node == l.NodeID {
			return l.AdminAddress, l.Address, true
		}
	}
	if n, err := findNode(status.Nodes, node); err == nil {
		return n.AdminAddress, n.Address, true
	}
	return "", "", node == "logserver"
}
