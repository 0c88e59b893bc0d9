package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as "64MiB", "1 GB", "4096".
type Size int64

// ParseSize reads a size: a whole or decimal number and a unit, binary (KiB, MiB, GiB, TiB, also K, M, G, T) or
// decimal (kB, MB, GB, TB), or no unit for bytes.
func ParseSize(text string) (Size, error) {
	value := strings.TrimSpace(text)
	digits := strings.IndexFunc(value, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	unit := ""
	if digits >= 0 {
		value, unit = value[:digits], strings.ToLower(strings.TrimSpace(value[digits:]))
	}
	factor, known := map[string]float64{
		"": 1, "b": 1,
		"k": 1 << 10, "ki": 1 << 10, "kib": 1 << 10, "kb": 1e3,
		"m": 1 << 20, "mi": 1 << 20, "mib": 1 << 20, "mb": 1e6,
		"g": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "gb": 1e9,
		"t": 1 << 40, "ti": 1 << 40, "tib": 1 << 40, "tb": 1e12,
	}[unit]
	number, err := strconv.ParseFloat(value, 64)
	bytes := number * factor
	if err != nil || !known || bytes != math.Trunc(bytes) || bytes > 1<<60 {
		return 0, fmt.Errorf("%q is not a size — write it like 64MiB, 1GB or 4096", text)
	}
	return Size(bytes), nil
}

// String writes the size so that ParseSize gives the same number back.
func (s Size) String() string {
	for _, u := range []struct {
		bytes Size
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Duration is a span of time, written as "10s", "1m30s", "250ms".
type Duration time.Duration

// ParseDuration reads a duration of 0 or more; a bare number other than 0 is
// refused, because nobody knows its unit.
func ParseDuration(text string) (Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration — write it like 250ms, 10s or 1m30s", text)
	}
	return Duration(d), nil
}

// String is the duration's text.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
