package testserver

import "time"

// Patience bounds every wait of a test. It is there to end what hangs, with a
// word about what was waited for, and is far more than anything takes: how fast
// a machine is decides nothing. Where a limit of the product is in the way of a
// slow machine, a test gives it as much.
const Patience = 5 * time.Minute
