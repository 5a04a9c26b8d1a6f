//go:build !unix

package devcluster

// lockData does nothing where there is no flock.
func (c *Cluster) lockData() error { return nil }
