package main

import (
	"cmp"
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

func newLs(program *app) *cobra.Command {
	var flags listFlags
	cmd := program.ofPaths(0, -1, &cobra.Command{
		Use:   "ls [flags] [PATH…]",
		Short: "list directories",
		Long: `List directories, in order of names; without a PATH the root. A name of a
directory ends with "/"; names with control characters are quoted. With -R paths
are absolute, one per line. -l shows kind, copies, bytes, time of the last
change (UTC) and name; "w" marks a file that is being written.`,
		Example: `  ww ls /photos
  ww ls -l -h /photos
  ww ls -R --json / | jq -r .path`,
	})
	flags.human = humanFlag(cmd)
	cmd.Flags().BoolVarP(&flags.long, "long", "l", false, "one line with details for each")
	cmd.Flags().BoolVarP(&flags.recursive, "recursive", "R", false, "go down into directories")
	cmd.Flags().BoolVarP(&flags.directory, "directory", "d", false, "the directory itself, not what is in it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{cmp.Or(program.directory, "/")}
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			info, err := woods.Stat(ctx, path)
			if err != nil {
				return err
			}
			if !info.Directory || flags.directory {
				out.entry(info, flags, path)
				return nil
			}
			if len(args) > 1 && !flags.recursive {
				out.text("%s:", shown(path))
			}
			return out.list(ctx, woods, path, flags)
		})(cmd, args)
	}
	return cmd
}

// list writes the entries of a directory.
func (p *printer) list(ctx context.Context, woods *client.Client, directory string, flags listFlags) error {
	for info, err := range woods.List(ctx, directory) {
		if err != nil {
			return err
		}
		info.Path = path.Join(directory, info.Name)
		name := info.Name
		if flags.recursive {
			name = info.Path
		}
		p.entry(info, flags, name)
		if p.err != nil {
			return nil // flush tells
		}
		if flags.recursive && info.Directory {
			if err := p.list(ctx, woods, info.Path, flags); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry writes one line or object of a listing.
func (p *printer) entry(info client.FileInfo, flags listFlags, name string) {
	p.object("entry", entryRecord(info))
	name = shown(name)
	if info.Directory && name != "/" {
		name += "/"
	}
	if !flags.long {
		p.text("%s", name)
		return
	}
	kind, copies, length := "-", "", size(info.Length, *flags.human)
	switch {
	case info.Directory:
		kind, copies, length = "d", "-", "-"
	case info.Open:
		kind = "w"
	}
	copies = cmp.Or(copies, size(int64(info.Replication), false))
	p.text("%s %2s %14s  %s  %s", kind, copies, length, info.Modified.UTC().Format("2006-01-02 15:04:05"), name)
}

// entryRecord is a file or directory in JSON, the same in every verb.
func entryRecord(info client.FileInfo) record {
	fields := record{
		"path": info.Path, "name": info.Name, "directory": info.Directory, "file_id": info.FileID,
		"created": stamp(info.Created), "modified": stamp(info.Modified),
	}
	if info.Directory {
		fields["children"] = info.Children
		return fields
	}
	fields["bytes"], fields["chunk_size"], fields["replication"], fields["open"] = info.Length, info.ChunkSize,
		info.Replication, info.Open
	if info.LeaseHolder != "" {
		fields["lease_holder"], fields["lease_since"] = info.LeaseHolder, stamp(info.LeaseSince)
	}
	return fields
}
