package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/whispering-woods/ww/internal/fault"
)

const (
	plotWidth  = 16 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
	// linesMax bounds the lines of one plot.
	linesMax = 12
)

// line is one curve of a plot.
type line struct {
	label string
	xys   plotter.XYs
}

// latencyLine is the latency at each percentile; x is 1/(1-quantile), so that
// every nine takes the same room on a logarithmic axis.
func latencyLine(label string, l Latency) (line, error) {
	h, err := hdr.Decode([]byte(l.HDR))
	if err != nil {
		return line{}, &fault.Error{Kind: fault.Invalid, Op: "read report", Reason: "a histogram cannot be decoded",
			Err: err}
	}
	out := line{label: label}
	total := float64(h.TotalCount())
	for x := 1.0; x <= max(total, 1); x *= math.Pow(10, 0.05) {
		us := h.ValueAtPercentile(100 * (1 - 1/x))
		out.xys = append(out.xys, plotter.XY{X: x, Y: max(float64(us), 1) / 1e3})
	}
	return out, nil
}

// throughputLine is the rate in each interval of a timeline.
func throughputLine(label string, r Result) line {
	out := line{label: label}
	step := time.Duration(r.Timeline.IntervalNs).Seconds()
	values, scale := r.Timeline.Operations, 1.0
	if r.Unit == "bytes/s" {
		values, scale = r.Timeline.Bytes, 1e6
	}
	for i, n := range values {
		if i == len(values)-1 && i > 0 {
			break // the last interval is not a whole one
		}
		out.xys = append(out.xys, plotter.XY{X: (float64(i) + 0.5) * step, Y: float64(n) / step / scale})
	}
	return out
}

// latencyPlot draws latencies by percentile.
func latencyPlot(title string, lines []line) (string, error) {
	picture := plot.New()
	picture.Title.Text = title
	picture.X.Label.Text, picture.Y.Label.Text = "percentile", "latency, ms"
	picture.X.Scale, picture.Y.Scale = plot.LogScale{}, plot.LogScale{}
	picture.X.Tick.Marker, picture.Y.Tick.Marker = nines{}, plot.LogTicks{Prec: -1}
	picture.X.Min, picture.X.Max = 1, 10
	if len(lines) == 0 {
		picture.Y.Min, picture.Y.Max = 1, 10 // a logarithmic axis has no 0
	}
	return render(picture, lines)
}

// throughputPlot draws rates over time.
func throughputPlot(title, unit string, lines []line) (string, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "seconds", "operations per second"
	if unit == "bytes/s" {
		p.Y.Label.Text = "MB per second"
	}
	p.Y.Min = 0
	return render(p, lines)
}

// render draws the lines and returns an <svg> element.
func render(picture *plot.Plot, lines []line) (string, error) {
	picture.Add(plotter.NewGrid())
	picture.Legend.Top = true
	for i, drawn := range lines {
		if i == linesMax || len(drawn.xys) == 0 {
			continue
		}
		curve, err := plotter.NewLine(drawn.xys)
		if err != nil {
			return "", fmt.Errorf("plot %s: %w", drawn.label, err)
		}
		curve.Color, curve.Width = hue(i), vg.Points(1.5)
		picture.Add(curve)
		picture.Legend.Add(drawn.label, curve)
	}
	if !(picture.Y.Max > picture.Y.Min) { // one value only
		picture.Y.Max = 2*picture.Y.Min + 1
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	picture.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("write a plot: %w", err)
	}
	_, element, found := strings.Cut(out.String(), "<svg")
	if !found {
		return "", fault.New(fault.Internal, "write a plot", "the plot is no SVG")
	}
	return "<svg" + element, nil
}

// hue is the i-th colour of the Okabe-Ito palette, which colour-blind people can tell apart.
func hue(i int) color.Color {
	palette := []color.RGBA{
		{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
		{230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255},
	}
	return palette[i%len(palette)]
}

// nines marks 0, 90, 99, 99.9 … per cent.
type nines struct{}

// Ticks implements plot.Ticker.
func (nines) Ticks(least, most float64) []plot.Tick {
	var out []plot.Tick
	for x, label := 1.0, "0"; x <= most*1.001; x *= 10 {
		if x >= least*0.999 {
			out = append(out, plot.Tick{Value: x, Label: label})
		}
		switch label {
		case "0":
			label = "90"
		case "90":
			label = "99"
		case "99":
			label = "99.9"
		default:
			label += "9"
		}
	}
	return out
}
