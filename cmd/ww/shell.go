package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/peterh/liner"
	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/internal/fault"
)

func newShell(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "shell",
		Short: "a prompt for the same verbs",
		Long: `Open a prompt for the same verbs, over one connection, with history and
completion of verbs and paths. Remote paths may be relative there: cd and pwd
change and show the directory. Words with spaces are quoted: 'a b', "a b" or
a\ b. exit, quit or Ctrl-D end it. Lines of a pipe or file run without a prompt;
the exit code is that of the last verb.`,
		Example: `  ww shell
  printf 'mkdir -p /a\nput x.txt /a\nls /a\n' | ww shell`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := program.connect(cmd.Context()); err != nil {
				return err
			}
			program.shell, program.directory, program.base = true, "/", program.global
			if isTerminal(program.stdin) && isTerminal(program.stdout) {
				program.release() // Ctrl-C ends the verb that runs, not the prompt
				return program.prompt()
			}
			return program.script(cmd.Context())
		},
	}
}

// lastExit carries the exit code of the prompt's last verb, whose error has been reported.
type lastExit struct{ outcome outcome }

func (lastExit) Error() string { return "the last verb failed" }

// script runs the lines of standard input.
func (a *app) script(ctx context.Context) error {
	last := exitOK
	lines := bufio.NewScanner(a.stdin)
	for lines.Scan() && ctx.Err() == nil {
		code, leave := a.line(ctx, lines.Text())
		if leave {
			break
		}
		last = code
	}
	if err := errors.Join(ctx.Err(), lines.Err()); err != nil {
		return err
	}
	if last != exitOK {
		return lastExit{outcome{"failed", last}}
	}
	return nil
}

// prompt reads lines from a terminal until its user leaves.
func (a *app) prompt() error {
	state := liner.NewLiner()
	defer func() { _ = state.Close() }() // restores the mode of the terminal
	state.SetCtrlCAborts(true)
	state.SetTabCompletionStyle(liner.TabPrints)
	state.SetWordCompleter(a.completeLine)
	history := a.historyFile()
	if file, err := os.Open(history); err == nil {
		_, _ = state.ReadHistory(file) // a history that cannot be read is no loss
		_ = file.Close()
	}
	a.note("Whispering Woods. help lists the verbs, exit leaves.")
	for {
		text, err := state.Prompt("ww " + a.directory + "> ")
		switch {
		case errors.Is(err, liner.ErrPromptAborted):
			continue
		case errors.Is(err, io.EOF):
			a.note("")
			saveHistory(state, history)
			return nil
		case err != nil:
			return err
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		state.AppendHistory(text)
		ctx, stop := a.interrupt(context.Background())
		_, leave := a.line(ctx, text)
		stop()
		if leave {
			saveHistory(state, history)
			return nil
		}
	}
}

// line runs one line; leave: it was the last one.
func (a *app) line(ctx context.Context, text string) (code int, leave bool) {
	words, err := splitWords(text)
	if err != nil {
		return a.report("shell", err), false
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return exitOK, false
	}
	switch words[0] {
	case "exit", "quit":
		return exitOK, true
	case "pwd":
		out := a.printer()
		out.object("directory", record{"path": a.directory})
		out.text("%s", shown(a.directory))
		return a.report("pwd", out.flush()), false
	case "cd":
		return a.report("cd", a.changeDirectory(ctx, words[1:])), false
	case "shell":
		return a.report("shell", usage("this is the shell")), false
	}
	return a.execute(ctx, words), false
}

func (a *app) changeDirectory(ctx context.Context, args []string) error {
	if len(args) > 1 {
		return usage("cd wants one directory")
	}
	target := "/"
	if len(args) == 1 {
		target = args[0]
	}
	path, err := a.remote(target)
	if err != nil {
		return err
	}
	info, err := a.client.Stat(ctx, path)
	if err != nil {
		return err
	}
	if !info.Directory {
		return &fault.Error{Kind: fault.NotDirectory, Path: path}
	}
	a.directory = path
	return nil
}

// splitWords splits a line as shells do: blanks separate; quotes and backslashes keep them.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote, escaped := false, rune(0), false
	for _, char := range line {
		switch {
		case escaped:
			word.WriteRune(char)
			escaped = false
		case char == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && char == quote:
			quote = 0
		case quote == 0 && (char == '\'' || char == '"'):
			quote, inWord = char, true
		case quote == 0 && (char == ' ' || char == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(char)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, usage("the line ends inside of a quote")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// completeLine is the prompt's tab key.
func (a *app) completeLine(line string, position int) (head string, completions []string, tail string) {
	begin := strings.LastIndexByte(line[:position], ' ') + 1
	for begin > 1 && line[begin-2] == '\\' { // an escaped blank is part of the word
		begin = strings.LastIndexByte(line[:begin-1], ' ') + 1
	}
	head, word, tail := line[:begin], line[begin:position], line[position:]
	before, err := splitWords(head)
	if err != nil {
		return head, nil, tail
	}
	if len(before) == 0 {
		for _, name := range a.verbNames() {
			if strings.HasPrefix(name, word) {
				completions = append(completions, name+" ")
			}
		}
		return head, completions, tail
	}
	unescaped := strings.ReplaceAll(word, `\ `, " ")
	found := a.remotePaths(context.Background(), unescaped)
	switch before[0] {
	case "put", "store", "append", "get", "fetch":
		found = append(found, localPaths(unescaped)...)
	}
	for _, name := range found {
		completions = append(completions, strings.ReplaceAll(name, " ", `\ `))
	}
	return head, completions, tail
}

func (a *app) verbNames() []string {
	names := []string{"cd", "pwd", "exit", "quit", "help"}
	for _, cmd := range newRoot(a).Commands() {
		if !cmd.Hidden {
			names = append(names, cmd.Name())
			names = append(names, cmd.Aliases...)
		}
	}
	return names
}

func localPaths(start string) []string {
	escaped := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(start)
	found, err := filepath.Glob(escaped + "*")
	if err != nil {
		return nil
	}
	for i, name := range found {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			found[i] += "/"
		}
	}
	return found[:min(len(found), completionsMax)]
}

// historyFile is where the prompt's lines are kept; "" if there is no home.
func (a *app) historyFile() string {
	state := a.getenv("XDG_STATE_HOME")
	if state == "" {
		home := a.getenv("HOME")
		if home == "" {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "ww", "history")
}

// saveHistory writes the history as well as it can: a home that cannot be
// written is no failure of the prompt. Only its user may read it.
func saveHistory(state *liner.State, path string) {
	if path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, _ = state.WriteHistory(file)
	_ = file.Close()
}
