package devcluster

import "context"

func (c *Cluster) demo(ctx context.Context) error { <-ctx.Done(); return nil }
