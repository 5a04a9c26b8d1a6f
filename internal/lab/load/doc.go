// Package load is daemons by the thousand and one publisher that cost little
// themselves, for measurements on a machine that they share with what is
// measured. They speak the daemon protocol frame by frame, read of it what
// measuring needs, and count: what came, how long it took, and whether anything
// is missing, repeated or out of order. Package traffic is for whoever wants to
// know what the daemons were promised.
package load
