// Package neolith holds what is known of Neolith's own database: the tables
// that the gateway reads there. The packages below it use them; all of that is
// optional, and runs only with DATABASE_URL.
package neolith

import _ "embed"

// Schema creates those of Neolith's tables that the gateway reads, as far as it
// reads them. Tests and the Compose file stand in for Neolith with it.
//
//go:embed schema.sql
var Schema string
