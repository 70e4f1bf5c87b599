// A page opened as a file may start no worker, and the search wants one. So here a worker is a
// hidden frame that runs the same script: what it posts comes to us, and what we post to it.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const worker = this
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.waiting = []
      document.documentElement.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => worker.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = (...addresses) =>
        addresses.reduce((last, one) => last.then(() => load(inside, one)), Promise.resolve())
      load(inside, address).then(() => {
        worker.inside = inside
        worker.waiting.splice(0).forEach(data => worker.postMessage(data))
      })
    }

    postMessage(data) {
      if (this.inside)
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
      else this.waiting.push(data)
    }

    terminate() {}
  }

function load(inside, address) {
  return new Promise((done, failed) => {
    const script = inside.document.createElement("script")
    script.src = new URL(address, location.href)
    script.onload = done
    script.onerror = failed
    inside.document.documentElement.append(script)
  })
}
