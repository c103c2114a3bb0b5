package main

import (
	"maps"
	"sync"

	"distro.internal/shared/cas"
)

// keys remembers under which keys the nodes of a run were looked for.
type keys struct {
	mu      sync.Mutex
	node    map[string]map[string]string
	actions map[string][]*cas.Key
}

// set records the keys of a node by kind.
func (k *keys) set(node string, of []*cas.Key) {
	digests := map[string]string{}
	for _, key := range of {
		digests[key.Kind()] = key.Digest().String()
	}
	k.record(node, digests)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.actions == nil {
		k.actions = map[string][]*cas.Key{}
	}
	k.actions[node] = of
}

// actionsOf are the keys of a node that set was told.
func (k *keys) actionsOf(node string) []*cas.Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.actions[node]
}

// record keeps the digests of a node's keys by name.
func (k *keys) record(node string, digests map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.node == nil {
		k.node = map[string]map[string]string{}
	}
	k.node[node] = digests
}

func (k *keys) of(node string) map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.node[node])
}
