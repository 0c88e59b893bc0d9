package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/control/logserver/walcheck"
)

func newLog(program *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "log",
		Short:   "check or list the directory of a log server that does not run",
		Example: "  ww log verify /srv/ww/log",
	}, newLogVerify(program), newLogDump(program))
}

func newLogVerify(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIRECTORY",
		Short: "read the whole log and its checkpoints and check every byte",
		Long: `Read a log server's directory, check every byte of the log and of its checkpoints,
and change nothing. Exit code 0: everything is good; 6: something is damaged, and each
place is named; 5: a log server uses the directory.`,
		Example: "  ww log verify /srv/ww/log",
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := walcheck.Verify(args[0])
			if report == nil {
				return err
			}
			out := program.printer()
			out.logReport(args[0], report)
			return out.done(err)
		},
	}
}

// logReport prints what a check found.
func (p *printer) logReport(directory string, report *walcheck.Report) {
	checkpoints, damage := []record{}, []record{}
	for _, c := range report.Checkpoints {
		said := ""
		if c.Damage != nil {
			said = c.Damage.Error()
		}
		checkpoints = append(checkpoints, record{"name": c.Name, "txid": c.Head.Txid, "epoch": c.Head.Epoch,
			"bytes": c.FileBytes, "usable": c.Usable(report.CutIndex), "error": said})
	}
	for _, d := range report.Damage {
		damage = append(damage, record{"segment": d.Segment, "offset": d.Offset, "index": d.Index, "txid": d.Txid,
			"reason": d.Reason})
	}
	p.object("log", record{"directory": directory, "first_txid": report.FirstTxid, "last_txid": report.LastTxid,
		"epoch": report.Epoch, "holder": report.Holder,
		"segments": len(report.Segments), "records": report.Records, "torn_bytes": report.TornBytes,
		"checkpoints": checkpoints, "damage": damage})
	p.text("log: txids %d to %d in %s, epoch %d", report.FirstTxid, report.LastTxid,
		count(len(report.Segments), "file"), report.Epoch)
	if report.TornBytes > 0 {
		p.text("its last write was unfinished and was never acknowledged: %d bytes, which a start cuts off",
			report.TornBytes)
	}
	for _, c := range report.Checkpoints {
		state := "good"
		switch {
		case c.Damage != nil:
			state = "damaged"
		case !c.Usable(report.CutIndex):
			state = "good, but the log does not go on behind it"
		}
		p.text("checkpoint %s: %s, %s", c.Name, size(c.FileBytes, true), state)
	}
	for _, d := range report.Damage {
		p.text("damaged: %s", d.Error())
	}
}

func newLogDump(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "dump DIRECTORY",
		Short: "list the batches and epochs of a log",
		Long: `List every batch and epoch of a log in a log server's directory, oldest first, and
change nothing. What a checkpoint replaced is no longer in the log. The list
ends at the first damage, with exit code 6.`,
		Example: "  ww log dump /srv/ww/log\n  ww log dump --json /srv/ww/log | jq 'select(.epoch == 7)'",
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			out := program.printer()
			return out.done(walcheck.Dump(args[0], func(e walcheck.DumpEntry) error {
				out.logEntry(e)
				return out.err
			}))
		},
	}
}

// logEntry prints one entry.
func (p *printer) logEntry(entry walcheck.DumpEntry) {
	refused := ""
	if entry.Refused != nil {
		refused = entry.Refused.Error()
	}
	bytes := 0
	for _, r := range entry.Records {
		bytes += len(r)
	}
	p.object("entry", record{"segment": entry.Segment, "offset": entry.Offset, "index": entry.Index, "term": entry.Term,
		"acquire": entry.Acquire, "epoch": entry.Epoch,
		"holder": entry.Holder, "first_txid": entry.FirstTxid, "records": len(entry.Records), "bytes": bytes,
		"refused": refused})
	line := fmt.Sprintf("%d  epoch %d  txid %d  %s, %d bytes", entry.Index, entry.Epoch, entry.FirstTxid,
		count(len(entry.Records), "record"), bytes)
	if entry.Acquire {
		line = fmt.Sprintf("%d  epoch %d  acquired by %s", entry.Index, entry.Epoch, shown(entry.Holder))
	}
	if refused != "" {
		line += "  refused: " + refused
	}
	p.text("%s", line)
}
