// Renders templates of Ollama's kind with Go's own text/template: reads {"templates": {name: text}, "chats": [[{"role",
// "content"}, ...], ...]} and prints {name: [text of each chat]}. Called by make_go_templates.mjs.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type Input struct {
	Templates map[string]string `json:"templates"`
	Chats     [][]Message       `json:"chats"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var input Input
	check(json.NewDecoder(os.Stdin).Decode(&input))
	out := map[string][]string{}
	for name, text := range input.Templates {
		parsed, err := template.New(name).Parse(text)
		check(err)
		for _, chat := range input.Chats {
			system := ""
			for _, message := range chat {
				if message.Role == "system" {
					system = message.Content
				}
			}
			var rendered strings.Builder
			check(parsed.Execute(&rendered, map[string]any{"Messages": chat, "System": system}))
			out[name] = append(out[name], rendered.String())
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	check(encoder.Encode(out))
}
