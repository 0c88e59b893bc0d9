package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/daemon"
)

func newVersion(program *app) *cobra.Command {
	var server bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: "  ww version\n  ww version --server --json",
		Args:    arguments(0, 0),
	}
	cmd.Flags().BoolVar(&server, "server", false, "also print those of the namenode and the datanodes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out := program.printer()
		fields := record{"ww": daemon.Version, "go": runtime.Version(), "os": runtime.GOOS,
			"architecture": runtime.GOARCH}
		revision := ""
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					revision = " (" + s.Value + ")"
					fields["revision"] = s.Value
				}
			}
		}
		out.text("ww %s%s %s %s/%s", daemon.Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		if server {
			status, err := program.clusterStatus(cmd.Context())
			if err != nil {
				return err
			}
			nodes := record{}
			out.text("namenode %s: %s", status.Namenode, status.Version)
			for _, n := range status.Nodes {
				nodes[n.NodeID] = n.Version
				out.text("datanode %s: %s", n.Address, n.Version)
			}
			fields["namenode"], fields["datanodes"] = status.Version, nodes
		}
		out.object("version", fields)
		return out.flush()
	}
	return cmd
}
