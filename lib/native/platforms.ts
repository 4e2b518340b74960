/** Made by scripts/platform-tables.mjs: what has been seen of the platforms that have a prebuilt addon. */
export const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64':
    'runs on hardware: the application below runs under Bun 1.4.5, Deno 2.9.6, and Node 20.20.2; `npm install` and the demo run under Bun 1.4.5, Deno 2.9.6, and Node 20.20.2',
  'linux-arm64': 'links only: built by aarch64-linux-gnu-g++ 12.2.0, and the file checked; never run',
  'linux-x64-musl': 'runs on hardware: the application below runs under Node 24.19.0',
  'linux-arm64-musl': 'links only: built by zig 0.17.1, and the file checked; never run',
  'win32-x64': 'runs under wine 8.0: the application below runs under Node 22.23.3',
  'darwin-arm64': 'links only: built by zig 0.17.1, and the file checked; never run',
  'darwin-x64': 'links only: built by zig 0.17.1, and the file checked; never run',
}
