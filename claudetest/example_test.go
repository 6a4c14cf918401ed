package claudetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"

	"github.com/claudepool/claudepool/claudetest"
)

// A scripted API answers whoever speaks the Messages API: the real CLI, or, as
// here, any other client.
func ExampleStartAPI() {
	api, err := claudetest.StartAPI(claudetest.Match(
		claudetest.When("weather", claudetest.Text("Rain.")),
		claudetest.When("busy", claudetest.Status(529)),
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer api.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, prompt := range []string{"How is the weather?", "Are you busy?", "[[reply:Directives work too.]]"} {
		body, err := json.Marshal(map[string]any{"model": "claude-sonnet-5", "messages": []any{map[string]string{"role": "user", "content": prompt}}})
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.Post(api.URL()+"/v1/messages", "application/json", bytes.NewReader(body))
		if err != nil {
			fmt.Println(err)
			return
		}
		var answer struct {
			Content []struct{ Text string }
			Error   struct{ Message string }
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %v %q\n", resp.StatusCode, answer.Content, answer.Error.Message)
	}
	fmt.Println(api.Requests()[0].Prompt)
	// Output:
	// 200 [{Rain.}] ""
	// 529 [] "Overloaded"
	// 200 [{Directives work too.}] ""
	// How is the weather?
}

// A test of one's own with the real CLI, in which nothing is spent.
func ExampleIsolateIn() {
	cli, err := claudetest.FindCLI()
	if err != nil {
		fmt.Println(err)
		return
	}
	api, err := claudetest.StartAPI(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer api.Close()
	dir, err := os.MkdirTemp("", "claudetest")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	iso, err := claudetest.IsolateIn(dir, api.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	cmd := exec.Command(cli, "-p", "[[reply:said by the script]]")
	cmd.Env, cmd.Dir = iso.Environ(), iso.Dir
	out, err := cmd.Output()
	fmt.Printf("%s%v\n", out, err)
}

// This program stands in for the CLI when it is started again with the
// environment of the options, because its TestMain calls Main.
func ExampleMain() {
	o, err := claudetest.StandInOptions(claudetest.StandInConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	cmd := exec.CommandContext(context.Background(), o.Path, "-p", "--no-session-persistence", "[[reply:Hello from the stand-in.]]")
	for k, v := range o.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, "HOME="+os.TempDir())
	cmd.Stderr = io.Discard
	out, err := cmd.Output()
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// Hello from the stand-in.
	// <nil>
}

// A script of one's own can fall back on the prompt language.
func ExampleDirectives() {
	script := func(r *claudetest.Request) claudetest.Reply {
		if r.Model == "claude-haiku-4-5" {
			return claudetest.Status(404)
		}
		return claudetest.Directives(r)
	}
	reply := script(&claudetest.Request{Model: "claude-sonnet-5", Prompt: "Please say [[reply:Hello]]."})
	fmt.Println(reply.Text())
	// Output: Hello
}
