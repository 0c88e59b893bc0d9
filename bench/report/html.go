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
func WriteHTML(out io.Writer, names []string, documents []*Document) error {
	layout, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	var shown page
	var results []string
	for i, measured := range documents {
		shown.Documents = append(shown.Documents, pageDocument{filepath.Base(names[i]), measured.Settings.shape(),
			measured.Machine.short(), measured.Started.UTC().Format(time.DateTime)})
		for _, s := range measured.Summary {
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
		shown.Sections = append(shown.Sections, s)
	}
	return layout.Execute(out, shown)
}

// sectionOf gathers one result: a row for each document and round.
func sectionOf(name string, names []string, documents []*Document) (section, error) {
	part := section{Name: name}
	var latencies, throughputs []line
	unit := ""
	for i, measured := range documents {
		for round, result := range measured.results(name) {
			label := filepath.Base(names[i])
			if len(measured.Rounds) > 1 {
				label = fmt.Sprintf("%s, round %d", label, round+1)
			}
			ratio := "no floor"
			if len(result.Limits) > 0 {
				ratio = fmt.Sprintf("%.0f %% of %s", 100*result.Limits[0].Ratio, result.Limits[0].Floor)
			}
			part.Rows = append(part.Rows, row{label, ratio, Rate(result.Rate, result.Unit), short(result.Latency.P50Ns),
				short(result.Latency.P99Ns), short(result.Latency.P999Ns),
				short(result.Latency.MaxNs), result.Failures})
			l, err := latencyLine(label, result.Latency)
			if err != nil {
				return part, err
			}
			latencies, throughputs = append(latencies, l), append(throughputs, throughputLine(label, result))
			unit = result.Unit
		}
	}
	latency, err := latencyPlot(name+": latency", latencies)
	if err != nil {
		return part, err
	}
	throughput, err := throughputPlot(name+": throughput", unit, throughputs)
	if err != nil {
		return part, err
	}
	part.Latency, part.Throughput = template.HTML(latency), template.HTML(throughput)
	return part, nil
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
