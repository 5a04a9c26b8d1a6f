package attack

// All returns every attack, in the size in which it is measured.
func All() []Attack {
	return []Attack{
		{Name: "reads-nothing", What: "reads nothing", Clients: 50, Fed: true, client: readsNothing},
		{Name: "reads-slowly", What: "reads a byte a second", Clients: 50, Fed: true, client: readsSlowly},
		{Name: "never-acks", What: "never acknowledges", Clients: 50, Fed: true, client: neverAcks},
		{Name: "acks-twice", What: "acknowledges all twice", Clients: 50, Fed: true, client: acksTwice},
		{Name: "acks-garbage", What: "acknowledges 1,000 events that it was not sent, without end", Clients: 10, client: acksGarbage},
		{Name: "subscribes", What: "subscribes and unsubscribes without end", Clients: 10, client: subscribes},
		{Name: "heartbeats", What: "heartbeats without end", Clients: 10, client: beatsWithoutEnd},
		{Name: "nonsense", What: "text that is no message, without end", Clients: 10, client: nonsense},
		{Name: "nonsense-at-the-door", What: "the same without authenticating", Clients: 10, client: nonsenseAtTheDoor},
		{Name: "pings", What: "pings without end", Clients: 10, client: pings},
		{Name: "fragments", What: "a message of empty fragments without end", Clients: 10, client: fragments},
		{Name: "too-large", What: "messages of 4 MiB", Clients: 10, client: tooLarge},
		{Name: "opens-and-closes", What: "connects, authenticates, subscribes and leaves as fast as it can", Clients: 20, client: opensAndCloses},
		{Name: "knocks", What: "connects and leaves as fast as it can", Clients: 20, client: knocks},
		{Name: "lingers", What: "connects and says nothing", Clients: 500, client: lingers},
		{Name: "half-frame", What: "leaves a frame of 60 KiB half written", Clients: 500, client: halfFrame},
		{Name: "half-body", What: "declares a body and sends none", Clients: 500, client: halfBody},
		{Name: "mute", What: "connects and sends nothing", Clients: 500, client: mute},
		{Name: "half-request", What: "leaves the headers of the upgrade unfinished", Clients: 500, client: halfRequest},
	}
}

// Named returns an attack of All.
func Named(name string) (a Attack, found bool) {
	for _, a := range All() {
		if a.Name == name {
			return a, true
		}
	}
	return Attack{}, false
}
