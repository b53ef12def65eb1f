//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// docker is a private Docker Engine: own data, own socket, own bridge, and no
// rule of this host's firewall touched.
type docker struct {
	socket string
	api    *http.Client
	image  string
}

// newDocker starts it, and imports a root file system as its image.
func newDocker(t testing.TB, root string) *docker {
	t.Helper()
	const bridge = "aebenchd"
	dir := folder(t)
	// After a crash of an earlier run the bridge may be there still.
	_ = exec.Command("ip", "link", "del", bridge).Run()
	run(t, "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { run(t, "ip", "link", "del", bridge) })
	run(t, "ip", "addr", "add", gateway(t), "dev", bridge)
	run(t, "ip", "link", "set", bridge, "up")
	config := filepath.Join(dir, "daemon.json")
	must(t, os.WriteFile(config, []byte("{}"), 0o600))
	d := &docker{socket: filepath.Join(dir, "docker.sock"), image: "bench:1"}
	engine := launch(t, filepath.Join(dir, "log"), "dockerd", "--config-file", config, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "run"), "--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+d.socket,
		"--bridge", bridge, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false")
	t.Cleanup(func() {
		ids, _ := exec.Command("docker", "-H", "unix://"+d.socket, "ps", "-aq").Output()
		for _, id := range bytes.Fields(ids) {
			_ = exec.Command("docker", "-H", "unix://"+d.socket, "rm", "-f", string(id)).Run()
		}
	})
	d.api = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}}
	engine.until(t, "Docker answers", 50*time.Millisecond, func() bool { return exec.Command("docker", "-H", "unix://"+d.socket, "version").Run() == nil })
	tar := filepath.Join(dir, "root.tar")
	run(t, "tar", "-C", root, "-cf", tar, ".")
	d.cli(t, "import", "-c", `CMD ["/bin/sleep","86400"]`, tar, d.image)
	return d
}

// gateway is an address for the engine's bridge.
func gateway(t testing.TB) string {
	t.Helper()
	ip, _, err := net.ParseCIDR(network(t))
	must(t, err)
	return fmt.Sprintf("%s1/24", strings.TrimSuffix(ip.String(), "0"))
}

func (d *docker) cli(t testing.TB, args ...string) {
	t.Helper()
	run(t, "docker", append([]string{"-H", "unix://" + d.socket}, args...)...)
}

// save writes the image as docker save does.
func (d *docker) save(t testing.TB, file string) {
	t.Helper()
	d.cli(t, "save", "-o", file, d.image)
}

// post calls the Engine's API and reads the whole answer.
func (d *docker) post(t testing.TB, path, body string) []byte {
	t.Helper()
	resp, err := d.api.Post("http://docker"+path, "application/json", bytes.NewReader([]byte(body)))
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("docker %s: %s %s", path, resp.Status, b)
	}
	return b
}

func (d *docker) postForID(t testing.TB, path, body string) string {
	t.Helper()
	var made struct{ ID string }
	must(t, json.Unmarshal(d.post(t, path, body), &made))
	return made.ID
}

// runByAPI is docker run -d without the CLI's own start.
func (d *docker) runByAPI(t testing.TB, name string) {
	t.Helper()
	id := d.postForID(t, "/containers/create?name="+name, fmt.Sprintf(`{"Image":%q}`, d.image))
	d.post(t, "/containers/"+id+"/start", "")
}

// execByAPI is docker exec without the CLI's own start: the answer ends with the
// program.
func (d *docker) execByAPI(t testing.TB, name string) {
	t.Helper()
	id := d.postForID(t, "/containers/"+name+"/exec", `{"AttachStdout":true,"AttachStderr":true,"Cmd":["/bin/true"]}`)
	d.post(t, "/exec/"+id+"/start", `{"Detach":false,"Tty":false}`)
}
