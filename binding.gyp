{
  # A bridge for node-gyp in a checkout, which runs the CMake build. It is not published: package managers would run it.
  "targets": [
    {
      "target_name": "lowrank",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt", "package.json"],
          "outputs": ["<(PRODUCT_DIR)/lowrank.node"],
          "action": ["node", "scripts/native.mjs", "build", "--arch", "<(target_arch)", "--out", "<(PRODUCT_DIR)/lowrank.node"],
          "message": "building the native addon with CMake"
        }
      ]
    }
  ]
}
