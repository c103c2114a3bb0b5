package sandbox

func (g *guest) watch(l Limits, done <-chan struct{}) {}
