package trace

// Config says which events are traced.
type Config struct {
	TraceSample int `default:"1000" min:"0" max:"1000000000" group:"Tracing" help:"Of so many events one is traced hop by hop, and with it all that fail, are repeated or wait for over a second (gatewayctl event). All nodes should have the same. 1 traces every event; 0 none."`
}
