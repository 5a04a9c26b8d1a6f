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
		{Name: "reads-events-slowly", What: "asks for all events by HTTP, and reads a byte a second", Clients: 50, Fed: true, client: readsEventsSlowly},
		{Name: "long-names", What: "subscribes to names of 1,200 bytes that are wrong, without end", Clients: 10, client: longNames},
		{Name: "half-body", What: "declares a body and sends none", Clients: 500, client: halfBody},
		{Name: "mute", What: "connects and sends nothing, more than `MAX_UNAUTHENTICATED`", Clients: 6000, client: mute},
		{Name: "half-request", What: "leaves the headers of the upgrade unfinished", Clients: 2000, client: halfRequest},
		{Name: "gossip-of-strangers", What: "gossip streams of 20 MiB without the key", Clients: 20, client: strangersStream},
		{Name: "gossip-of-a-member", What: "gossip messages of 4 MiB with the key, without end", Clients: 20, client: membersStream},
		{Name: "gossip-declared", What: "exchanges of gossip with the key that declare a million members and 20 MiB", Clients: 20, client: membersDeclaration},
		{Name: "handshakes", What: "TLS handshakes with the intake, as fast as it can", Clients: 20, OnIntake: true, client: handshakes},
		{Name: "half-handshake", What: "begins TLS handshakes with the intake", Clients: 2000, OnIntake: true, client: halfHandshake},
		{Name: "drips", What: "requests of the intake that declare 16 MiB and send a byte", Clients: 500, OnIntake: true, client: drips},
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
