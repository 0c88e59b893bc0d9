package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"time"
)

//go:embed page.html
var pageText string

// page is what the template shows.
type page struct {
	Documents []pageDocument
	Sections  []section
}

type pageDocument struct {
	Name, Shape, Machine string
	Started              string
}

// section is one result over all documents.
type section struct {
	Name                string
	Rows                []row
	Latency, Throughput template.HTML // <svg> elements made by this package
}

type row struct {
	Document, Ratio, Rate, P50, P99, P999, Max string
	Failures                                   int64
}

// WriteHTML writes one page without any reference to another file: a table and
// two plots for each result, all documents in the same plot.
func WriteHTML(w io.Writer, names []string, documents []*Document) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	var p page
	var results []string
	for i, d := range documents {
		p.Documents = append(p.Documents, pageDocument{filepath.Base(names[i]), d.Settings.shape(), d.Machine.short(), d.Started.UTC().Format(time.DateTime)})
		for _, s := range d.Summary {
			if !slices.Contains(results, s.Name) {
				results = append(results, s.Name)
			}
		}
	}
	for _, name := range results {
		s, err := sectionOf(name, names, documents)
		if err != nil {
			return err
		}
		p.Sections = append(p.Sections, s)
	}
	return t.Execute(w, p)
}

// sectionOf gathers one result: a row for each document and round.
func sectionOf(name string, names []string, documents []*Document) (section, error) {
	s := section{Name: name}
	var latencies, throughputs []line
	unit := ""
	for i, d := range documents {
		for round, r := range d.results(name) {
			label := filepath.Base(names[i])
			if len(d.Rounds) > 1 {
				label = fmt.Sprintf("%s, round %d", label, round+1)
			}
			ratio := "no floor"
			if len(r.Limits) > 0 {
				ratio = fmt.Sprintf("%.0f %% of %s", 100*r.Limits[0].Ratio, r.Limits[0].Floor)
			}
			s.Rows = append(s.Rows, row{label, ratio, Rate(r.Rate, r.Unit), short(r.Latency.P50Ns), short(r.Latency.P99Ns), short(r.Latency.P999Ns), short(r.Latency.MaxNs), r.Failures})
			l, err := latencyLine(label, r.Latency)
			if err != nil {
				return s, err
			}
			latencies, throughputs = append(latencies, l), append(throughputs, throughputLine(label, r))
			unit = r.Unit
		}
	}
	latency, err := latencyPlot(name+": latency", latencies)
	if err != nil {
		return s, err
	}
	throughput, err := throughputPlot(name+": throughput", unit, throughputs)
	if err != nil {
		return s, err
	}
	s.Latency, s.Throughput = template.HTML(latency), template.HTML(throughput)
	return s, nil
}

// results are the rounds' results of one name.
func (d *Document) results(name string) []Result {
	var out []Result
	for _, round := range d.Rounds {
		for _, r := range round.Results {
			if r.Name == name {
				out = append(out, r)
			}
		}
	}
	return out
}
