//go:build !race

package simulation

const raceFactor = 1
