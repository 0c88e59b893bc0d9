package main

import (
	"context"
	"path"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
)

// listFlags are those of ls.
type listFlags struct {
	long, recursive, directory bool
	human                      *bool
}

func newLs(a *app) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "ls [flags] [PATH…]",
		Short: "list directories",
		Long: `List directories, in order of names; without a PATH the root. A name of a
directory ends with "/"; names with control characters are quoted. With -R paths
are absolute, one per line. -l shows kind, copies, bytes, time of the last
change (UTC) and name; "w" marks a file that is being written.`,
		Example: `  ww ls /photos
  ww ls -l -h /photos
  ww ls -R --json / | jq -r .path`,
		Args:              arguments(0, -1),
		ValidArgsFunction: a.completeRemote,
	}
	f.human = humanFlag(cmd)
	cmd.Flags().BoolVarP(&f.long, "long", "l", false, "one line with details for each")
	cmd.Flags().BoolVarP(&f.recursive, "recursive", "R", false, "go down into directories")
	cmd.Flags().BoolVarP(&f.directory, "directory", "d", false, "the directory itself, not what is in it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"/"}
			if a.shell {
				args[0] = a.directory
			}
		}
		out := a.printer()
		err := a.eachFile(cmd, args, func(ctx context.Context, c *client.Client, p string) error {
			info, err := c.Stat(ctx, p)
			if err != nil {
				return err
			}
			if !info.Directory || f.directory {
				out.entry(info, f, p)
				return nil
			}
			if len(args) > 1 && !f.recursive {
				out.text("%s:", shown(p))
			}
			return out.list(ctx, c, p, f)
		})
		return out.done(err)
	}
	return cmd
}

// list writes the entries of a directory.
func (p *printer) list(ctx context.Context, c *client.Client, directory string, f listFlags) error {
	for info, err := range c.List(ctx, directory) {
		if err != nil {
			return err
		}
		info.Path = path.Join(directory, info.Name)
		name := info.Name
		if f.recursive {
			name = info.Path
		}
		p.entry(info, f, name)
		if p.err != nil {
			return nil // flush tells
		}
		if f.recursive && info.Directory {
			if err := p.list(ctx, c, info.Path, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry writes one line or object of a listing.
func (p *printer) entry(info client.FileInfo, f listFlags, name string) {
	p.object("entry", entryRecord(info))
	name = shown(name)
	if info.Directory && name != "/" {
		name += "/"
	}
	if !f.long {
		p.text("%s", name)
		return
	}
	kind, copies, length := "-", "", size(info.Length, *f.human)
	switch {
	case info.Directory:
		kind, copies, length = "d", "-", "-"
	case info.Open:
		kind = "w"
	}
	if copies == "" {
		copies = size(int64(info.Replication), false)
	}
	p.text("%s %2s %14s  %s  %s", kind, copies, length, info.Modified.UTC().Format("2006-01-02 15:04:05"), name)
}

// entryRecord is a file or directory in JSON, the same in every verb.
func entryRecord(info client.FileInfo) record {
	r := record{
		"path": info.Path, "name": info.Name, "directory": info.Directory, "file_id": info.FileID,
		"created": stamp(info.Created), "modified": stamp(info.Modified),
	}
	if info.Directory {
		r["children"] = info.Children
		return r
	}
	r["bytes"], r["chunk_size"], r["replication"], r["open"] = info.Length, info.ChunkSize, info.Replication, info.Open
	if info.LeaseHolder != "" {
		r["lease_holder"], r["lease_since"] = info.LeaseHolder, stamp(info.LeaseSince)
	}
	return r
}
