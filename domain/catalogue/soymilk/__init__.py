"""Commercial soy-milk machines (商用豆浆机)."""
