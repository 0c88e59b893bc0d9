package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// Groups of verbs in --help.
const (
	groupFiles   = "files"
	groupDaemons = "daemons"
	groupOther   = "other"
)

// newRoot builds the command tree for one command line. Cobra keeps the values
// of flags in the tree, so the prompt builds one per line.
func newRoot(program *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "ww",
		Short: "Whispering Woods: a distributed file system",
		Long: `ww is the client of a Whispering Woods cluster, and runs its servers too.

Remote paths are absolute: /logs/today. "-" is standard input or output.
Data goes to standard output, everything else to standard error.

Settings come from flags, then WW_* variables, then the file that --config or
WW_CONFIG names, then defaults.

` + exitHelp,
		Example: `  ww mini --dir /tmp/woods                      start a small cluster
  export WW_CONFIG=/tmp/woods/client.yaml       reach it
  ww put -r ~/photos /photos                    store a tree
  ww ls -l /photos
  ww get -r /photos /tmp/copy                   fetch it back`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	})
	root.SetIn(program.stdin)
	root.SetOut(program.stdout)
	root.SetErr(program.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageOf(cmd, "%v", err)
	})
	root.AddGroup(
		&cobra.Group{ID: groupFiles, Title: "Files:"},
		&cobra.Group{ID: groupDaemons, Title: "Daemons:"},
		&cobra.Group{ID: groupOther, Title: "More:"},
	)
	flags := root.PersistentFlags()
	flags.StringVar(&program.global.config, "config", program.global.config,
		"YAML `file` of settings; default WW_CONFIG")
	flags.BoolVar(&program.global.json, "json", program.global.json,
		"results as JSON, one object per line; errors too, on standard error")
	flags.BoolVarP(&program.global.quiet, "quiet", "q", program.global.quiet,
		"print only results and errors, no progress and no remarks")
	program.settings(root, "client", true, "namenodes", "timeout", "parallel_chunks")
	program.settings(root, "log", true, "level", "format")

	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add(groupFiles,
		newPut(program), newGet(program), newAppend(program), newCat(program), newHead(program), newTail(program),
		newRecords(program),
		newLs(program), newStat(program), newRm(program), newUndelete(program), newMkdir(program), newMv(program),
		newCp(program), newTruncate(program), newSetrep(program), newDu(program), newDf(program), newFsck(program),
		newWhy(program), newTouch(program), newTest(program), newChecksum(program), newLocate(program))
	if !program.shell {
		add(groupDaemons, newMini(program), newLogserver(program), newNamenode(program), newDatanode(program))
		add(groupOther, newShell(program), newCompletion(program), newDemo(program), newLog(program))
	}
	add(groupOther, newAdmin(program), newVersion(program))
	root.SetHelpCommandGroupID(groupOther)
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true // Use says where they go
	}
	return root
}

// settings registers flags for settings of a section; all of them if no names are given.
func (a *app) settings(cmd *cobra.Command, section string, persistent bool, names ...string) {
	flags := cmd.Flags()
	if persistent {
		flags = cmd.PersistentFlags()
	}
	for _, field := range config.Fields(section) {
		if len(names) > 0 && !slices.Contains(names, strings.TrimPrefix(field.Key, section+".")) {
			continue
		}
		name := field.Flag
		if section == "log" {
			name = "log-" + name
		}
		flags.Var(&setting{field: field, values: a.global.values, text: field.Default}, name,
			field.Usage+" ("+field.Env+")")
	}
}

// setting is a flag that is one setting of the configuration; its text is
// parsed there, by the rules that hold for the file and the environment.
type setting struct {
	field  config.Field
	values map[string]string
	text   string
}

func (s *setting) String() string { return s.text }
func (s *setting) Type() string   { return s.field.Type }

// Set notes the text; a list's flag may be given several times.
func (s *setting) Set(text string) error {
	if before, again := s.values[s.field.Key]; again && s.field.Type == "list" {
		text = before + "," + text
	}
	s.text = text
	s.values[s.field.Key] = text
	return nil
}

// usageOf is a usage error that points to the command's help.
func usageOf(cmd *cobra.Command, format string, args ...any) error {
	e := fault.New(fault.Invalid, "", format, args...)
	e.Hint = fmt.Sprintf("see %s --help", cmd.CommandPath())
	return e
}

// group makes cmd a command that only holds verbs.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownVerb(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(verbs...)
	return cmd
}

func unknownVerb(cmd *cobra.Command, name string) error {
	e := fault.New(fault.Invalid, "", "there is no verb %q", name)
	e.Hint = "see " + cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		e.Hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return e
}

// arguments checks how many there are; most < 0: any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageOf(cmd, "wants %s, got %d: %s", count(least, "argument"), len(args), cmd.UseLine())
		case most >= 0 && len(args) > most:
			return usageOf(cmd, "wants at most %s, got %d: %s", count(most, "argument"), len(args), cmd.UseLine())
		}
		return nil
	}
}

// count is "1 file", "2 files".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// humanFlag adds -h for sizes that people read; the help flag keeps only its long name then.
func humanFlag(cmd *cobra.Command) *bool {
	cmd.Flags().Bool("help", false, "help for "+cmd.Name())
	return cmd.Flags().BoolP("human", "h", false, "sizes for people: 12 KiB, 3.4 GiB")
}
