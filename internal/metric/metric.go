// Package metric makes and registers Prometheus metrics in one way. Labels are
// closed sets with a type of their own, and each of their series is there from
// the start: a rate can be computed from the first occurrence on, and an alert
// on one tells "none" from "not measured".
package metric

import (
	"github.com/prometheus/client_golang/prometheus"
)

// register panics where a name is taken: a mistake in the program.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	reg.MustRegister(c)
	return c
}

// Counter returns a counter without labels.
func Counter(reg prometheus.Registerer, name, help string) prometheus.Counter {
	return register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
}

// CounterFunc registers a counter that is read at each scrape.
func CounterFunc(reg prometheus.Registerer, name, help string, read func() float64) {
	register(reg, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Gauge returns a gauge without labels.
func Gauge(reg prometheus.Registerer, name, help string) prometheus.Gauge {
	return register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
}

// GaugeFunc registers a gauge that is read at each scrape, with labels that do
// not change, or none.
func GaugeFunc(reg prometheus.Registerer, name, help string, labels prometheus.Labels, read func() float64) {
	register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// Histogram returns a histogram without labels.
func Histogram(reg prometheus.Registerer, name, help string, buckets []float64) prometheus.Histogram {
	return register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
}

// CounterVec returns counters by labels that are no closed set of one type. The
// zero series of what is known are for the caller to make.
func CounterVec(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// GaugeVec is CounterVec for gauges.
func GaugeVec(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	return register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

// HistogramVec is CounterVec for histograms.
func HistogramVec(reg prometheus.Registerer, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
}

// Observe adds a value to a histogram, and where it is of an event that has a trace,
// that trace as its example.
func Observe(h prometheus.Observer, value float64, traceID string) {
	if traceID != "" {
		if with, ok := h.(prometheus.ExemplarObserver); ok {
			with.ObserveWithExemplar(value, prometheus.Labels{"trace_id": traceID})
			return
		}
	}
	h.Observe(value)
}

// Counters are counters by one label, whose values are of the type L.
type Counters[L ~string] struct {
	vec *prometheus.CounterVec
	all map[L]prometheus.Counter // because events are counted, and to find a series by labels takes longer
}

// By returns counters by a label, and makes the series of all its values.
func By[L ~string](reg prometheus.Registerer, name, help, label string, all ...L) Counters[L] {
	return CountersOf(CounterVec(reg, name, help, label), all...)
}

// CountersOf is By for a vector of which one label is left.
func CountersOf[L ~string](vec *prometheus.CounterVec, all ...L) Counters[L] {
	c := Counters[L]{vec, make(map[L]prometheus.Counter, len(all))}
	for _, value := range all {
		c.all[value] = vec.WithLabelValues(string(value))
	}
	return c
}

// Of returns the counter of a value.
func (c Counters[L]) Of(value L) prometheus.Counter {
	if counter, ok := c.all[value]; ok {
		return counter
	}
	return c.vec.WithLabelValues(string(value))
}

// Truth is a condition as a gauge shows it.
func Truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
