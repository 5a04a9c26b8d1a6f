package gatewayctl

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strconv"
	"strings"
)

// sample is a line of what Prometheus gets.
type sample struct {
	name, labels string
	value        float64
}

// samples are the metrics of a node.
type samples []sample

func parseSamples(text string) (all samples) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			continue
		}
		name, labels, _ := strings.Cut(line[:end], "{")
		all = append(all, sample{name, strings.TrimSuffix(labels, "}"), value})
	}
	return all
}

// sum adds the series of a metric that have all of these labels, such as
// type="moved". It reports whether there are any.
func (s samples) sum(name string, labels ...string) (sum float64, found bool) {
next:
	for _, one := range s {
		if one.name != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(","+one.labels+",", ","+l+",") {
				continue next
			}
		}
		sum, found = sum+one.value, true
	}
	return sum, found
}

// largest bounds what is decompressed of an answer.
const largest = 64 << 20

func decompress(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, largest))
	return text, errors.Join(err, r.Close())
}
