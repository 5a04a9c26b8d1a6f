//go:build race

package simulation

// raceFactor makes runs fewer where the race detector makes them slow.
const raceFactor = 3
