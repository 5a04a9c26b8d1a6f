package admin

import "net/http"

// Handler answers as a server does, without a connection.
func Handler(n Node) http.Handler { return newMux(n) }
