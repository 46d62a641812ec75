"""What the web servers of the mesh share: limits of connections, checks of requests, sign-in, sessions and roles."""
