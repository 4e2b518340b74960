/** A registry on this machine that has packages of lowrank, so that they are installed as if they were published. */
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

/**
 * Serves packages.
 * @param tarballs by name, `{ path, manifest }` of each
 * @param others the registry that has all others, where there is to be one
 * @returns `{ url, close }`
 */
export async function serve(tarballs, others) {
  // Package managers keep what an address has answered.
  const root = `/${randomUUID()}/`
  const server = createServer(({ url }, response) => {
    const [name, file] = decodeURIComponent(url.slice(root.length)).split('/-/')
    const found = tarballs[name]
    if (found === undefined && others)
      return response.writeHead(302, { location: new URL(url.slice(root.length), others).href }).end()
    if (found === undefined) return response.writeHead(404).end('{}')
    if (file) return response.end(readFileSync(found.path))
    response.setHeader('content-type', 'application/json').end(JSON.stringify(document(name, found)))
  })
  const document = (name, { path, manifest }) => {
    const integrity = `sha512-${createHash('sha512').update(readFileSync(path)).digest('base64')}`
    const shasum = createHash('sha1').update(readFileSync(path)).digest('hex')
    const dist = { tarball: `${address()}${name}/-/${manifest.version}.tgz`, integrity, shasum }
    const versions = { [manifest.version]: { ...manifest, dist } }
    return {
      name,
      'dist-tags': { latest: manifest.version },
      versions,
      time: { [manifest.version]: new Date(0) },
    }
  }
  const address = () => `http://127.0.0.1:${server.address().port}${root}`
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: address(), close }
}

/** Files of a project that send package managers to it for that scope. */
export function settings(url) {
  return {
    '.npmrc': `@lowrank:registry=${url}\n`,
    '.yarnrc.yml': `npmScopes:\n  lowrank:\n    npmRegistryServer: '${url}'\nunsafeHttpWhitelist: ['127.0.0.1']\n`,
  }
}
