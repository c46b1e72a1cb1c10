/* Browsers start no worker from a disk: there the search of the site runs in a hidden frame. */
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<body></body>"
      this.window = new Promise((resolve, reject) => {
        frame.onload = () => {
          const inner = frame.contentWindow
          inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = inner.document.createElement("script")
          script.onload = () => resolve(inner)
          script.onerror = reject
          script.src = url
          inner.document.body.append(script)
        }
      })
      document.body.append(frame)
    }

    async postMessage(data) {
      const inner = await this.window
      inner.dispatchEvent(new inner.MessageEvent("message", { data }))
    }
  }
