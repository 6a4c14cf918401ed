//go:build linux

package proctree

import (
	"errors"
	"testing"
	"testing/fstest"
)

func TestFreeMemoryIsTheLeastOfAllLimits(t *testing.T) {
	t.Parallel()
	group := func(dir, limit, high, used, cache string) map[string]string {
		return map[string]string{
			dir + "/memory.max": limit + "\n", dir + "/memory.high": high + "\n", dir + "/memory.current": used + "\n",
			dir + "/memory.stat": "anon 1\ninactive_file " + cache + "\nactive_file 2\n",
		}
	}
	for _, c := range []struct {
		name   string
		cgroup string
		groups []map[string]string
		want   int64
	}{
		{"no limit", "0::/a/b\n", []map[string]string{group("sys/fs/cgroup/a/b", "max", "max", "10", "0")}, 1000 * 1024},
		{"own group", "0::/a/b\n", []map[string]string{group("sys/fs/cgroup/a/b", "5000", "max", "3000", "500")}, 2500},
		{"soft limit", "0::/a/b\n", []map[string]string{group("sys/fs/cgroup/a/b", "5000", "4000", "3000", "500")}, 1500},
		{"group above", "0::/a/b\n", []map[string]string{
			group("sys/fs/cgroup/a/b", "5000", "max", "3000", "500"), group("sys/fs/cgroup/a", "4000", "max", "3500", "0"),
		}, 500},
		{"root of a container", "0::/outside/path\n", []map[string]string{group("sys/fs/cgroup", "5000", "max", "1000", "0")}, 4000},
		{"more used than allowed", "0::/a\n", []map[string]string{group("sys/fs/cgroup/a", "5000", "4000", "4500", "0")}, 0},
		{"more allowed than there is", "0::/a\n", []map[string]string{group("sys/fs/cgroup/a", "9000000", "max", "0", "0")}, 1000 * 1024},
		{"version 1", "4:memory:/a\n", []map[string]string{group("sys/fs/cgroup/a", "5000", "max", "1000", "0")}, 1000 * 1024},
		{"no control groups", "", nil, 1000 * 1024},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 2000 kB\nMemFree: 1 kB\nMemAvailable:    1000 kB\n")}}
			if c.cgroup != "" {
				root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(c.cgroup)}
			}
			for _, g := range c.groups {
				for name, text := range g {
					root[name] = &fstest.MapFile{Data: []byte(text)}
				}
			}
			if got, err := freeMemory(root); got != c.want || err != nil {
				t.Errorf("got %d, %v; want %d", got, err, c.want)
			}
		})
	}
}

func TestFreeMemoryOfAnOldKernel(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 2000 kB\n")}}
	if _, err := freeMemory(root); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v; want ErrUnsupported", err)
	}
}
