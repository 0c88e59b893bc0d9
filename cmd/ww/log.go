package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/control/logserver"
)

func newLog(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "log",
		Short:   "look at a log server's directory while no log server uses it",
		Example: "  ww log verify /srv/ww/log",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogVerify(a), newLogDump(a))
	return cmd
}

func newLogVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify DIRECTORY",
		Short: "read the whole log and its checkpoints and check every byte",
		Long: `Read a log server's directory, check every byte of the log and of its checkpoints,
and change nothing. Exit code 0: all of it is good; 6: something is damaged, and each
place is named; 5: a log server uses the directory.`,
		Example: "  ww log verify /srv/ww/log",
		Args:    arguments(1, 1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		report, err := logserver.Verify(args[0])
		if report == nil {
			return err
		}
		out := a.printer()
		out.logReport(args[0], report)
		return out.done(err)
	}
	return cmd
}

// logReport prints what a check found.
func (p *printer) logReport(directory string, r *logserver.Report) {
	checkpoints, damage := []record{}, []record{}
	for _, c := range r.Checkpoints {
		said := ""
		if c.Damage != nil {
			said = c.Damage.Error()
		}
		checkpoints = append(checkpoints, record{"name": c.Name, "txid": c.Txid, "epoch": c.Epoch, "bytes": c.Bytes, "usable": c.Usable, "error": said})
	}
	for _, d := range r.Damage {
		damage = append(damage, record{"segment": d.Segment, "offset": d.Offset, "index": d.Index, "txid": d.Txid, "reason": d.Reason})
	}
	p.object("log", record{"directory": directory, "first_txid": r.FirstTxid, "last_txid": r.LastTxid, "epoch": r.Epoch, "holder": r.Holder,
		"segments": len(r.Segments), "records": r.Records, "torn_bytes": r.TornBytes, "checkpoints": checkpoints, "damage": damage})
	p.text("log: txids %d to %d in %s, epoch %d", r.FirstTxid, r.LastTxid, count(len(r.Segments), "file"), r.Epoch)
	if r.TornBytes > 0 {
		p.text("its last write was unfinished and was never acknowledged: %d bytes, which a start cuts off", r.TornBytes)
	}
	for _, c := range r.Checkpoints {
		state := "good"
		switch {
		case c.Damage != nil:
			state = "damaged"
		case !c.Usable:
			state = "good, but the log does not go on behind it"
		}
		p.text("checkpoint %s: %s, %s", c.Name, size(c.Bytes, true), state)
	}
	for _, d := range r.Damage {
		p.text("damaged: %s", d.Error())
	}
}

func newLogDump(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump DIRECTORY",
		Short: "list the batches and epochs of a log",
		Long: `List every batch and epoch of a log in a log server's directory, oldest first, and
change nothing. What a checkpoint replaced is not there any more. Damage ends the
list with exit code 6.`,
		Example: "  ww log dump /srv/ww/log\n  ww log dump --json /srv/ww/log | jq 'select(.epoch == 7)'",
		Args:    arguments(1, 1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		out := a.printer()
		return out.done(logserver.Dump(args[0], func(e logserver.DumpEntry) error {
			out.logEntry(e)
			return out.err
		}))
	}
	return cmd
}

// logEntry prints one entry.
func (p *printer) logEntry(e logserver.DumpEntry) {
	refused := ""
	if e.Refused != nil {
		refused = e.Refused.Error()
	}
	bytes := 0
	for _, r := range e.Records {
		bytes += len(r)
	}
	p.object("entry", record{"segment": e.Segment, "offset": e.Offset, "index": e.Index, "term": e.Term, "acquire": e.Acquire, "epoch": e.Epoch,
		"holder": e.Holder, "first_txid": e.FirstTxid, "records": len(e.Records), "bytes": bytes, "refused": refused})
	line := fmt.Sprintf("%d  epoch %d  txid %d  %s, %d bytes", e.Index, e.Epoch, e.FirstTxid, count(len(e.Records), "record"), bytes)
	if e.Acquire {
		line = fmt.Sprintf("%d  epoch %d  acquired by %s", e.Index, e.Epoch, shown(e.Holder))
	}
	if refused != "" {
		line += "  refused: " + refused
	}
	p.text("%s", line)
}
